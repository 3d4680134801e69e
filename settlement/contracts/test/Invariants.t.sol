// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SettlementLedger} from "../src/SettlementLedger.sol";
import {Handler} from "./Handler.sol";
import {TestToken} from "./Tokens.sol";
import {vm} from "./Vm.sol";

/// @notice What holds after any number of actions in any order.
contract InvariantsTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Handler private handler;
    SettlementLedger private ledger;
    TestToken private token;

    function setUp() public {
        handler = new Handler();
        ledger = SettlementLedger(handler.ledgerAddress());
        token = TestToken(handler.tokenAddress());
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev Posting, attesting, claiming and waiting come more often, so that runs get somewhere.
    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[16] memory chosen = [
            Handler.fund.selector,
            Handler.fund.selector,
            Handler.postNext.selector,
            Handler.postNext.selector,
            Handler.attestSome.selector,
            Handler.attestSome.selector,
            Handler.letTimePass.selector,
            Handler.letTimePass.selector,
            Handler.claimSome.selector,
            Handler.claimBatch.selector,
            Handler.disputeSome.selector,
            Handler.revokeSome.selector,
            Handler.claimDead.selector,
            Handler.claimTooEarly.selector,
            Handler.pauseClaims.selector,
            Handler.pausePosts.selector
        ];
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), new bytes4[](chosen.length));
        for (uint256 i = 0; i < chosen.length; ++i) {
            targets[0].selectors[i] = chosen[i];
        }
    }

    function invariant_everything_holds() public {
        // claimed = sum of claims, for the ledger and for every account
        vm.assertEq(ledger.claimed(), handler.paidInAll(), "claimed is the sum of claims");
        uint256 sum = 0;
        for (uint256 i = 0; i < 4; ++i) {
            address account = handler.accounts(i);
            vm.assertEq(ledger.claimedBy(account), handler.paid(i), "claimed by the account");
            vm.assertEq(token.balanceOf(account), handler.paid(i), "and received by it");
            sum += ledger.claimedBy(account);
        }
        vm.assertEq(ledger.claimed(), sum, "claimed is the sum over accounts");

        // claimed <= active total <= last total; balance >= owed
        vm.assertEq(ledger.activeTotal(), handler.highestTotalClaimedAgainst(), "highest total claimed against");
        vm.assertLe(ledger.claimed(), ledger.activeTotal(), "claimed <= active total");
        vm.assertLe(ledger.activeTotal(), ledger.total(), "active total <= last total");
        vm.assertGe(token.balanceOf(address(ledger)), ledger.owed(), "balance >= owed");
        uint256 unowed = token.balanceOf(address(ledger)) - ledger.owed();
        uint256 deposits = ledger.deposits();
        vm.assertEq(unowed > deposits ? unowed - deposits : 0, ledger.free(), "free is the rest without the deposits");

        // totals and activation times monotonic, active for ever unless revoked
        handler.checkPosts();

        // head = fold of posts and disputes, and no two share one
        vm.assertEq(ledger.head(), handler.modelHead(), "the head is the fold");
        vm.assertTrue(!handler.headRepeated(), "no head comes twice");

        // attestation never reaches beyond what was posted; a pause ends within 7 days
        vm.assertTrue(ledger.attested() < ledger.nextSequence(), "attested is posted");
        vm.assertLe(ledger.claimsPausedUntil(), block.timestamp + 7 days, "a pause ends by itself");
    }

    /// @dev However claims were ordered, split or skipped, each account ends with all that it was ever owed.
    function afterInvariant() public {
        handler.payEverything();
        invariant_everything_holds();
    }
}
