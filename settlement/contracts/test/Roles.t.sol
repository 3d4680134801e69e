// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IAccessControlDefaultAdminRules} from
    "@openzeppelin/contracts/access/extensions/IAccessControlDefaultAdminRules.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {DemoDollar} from "../src/DemoDollar.sol";
import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {SettlementLedger} from "../src/SettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {TestToken} from "./Tokens.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Who may do what, and what a ledger may be made with.
contract RolesTest is LedgerTest {
    uint256 private constant DEVELOPMENT_CHAIN_ID = 31_337;

    function test_every_role_is_asked_for() public {
        bytes32 head = ledger.head();
        expectUnauthorized(ledger.POSTER_ROLE());
        ledger.post(1, head, "w", "p", "m", uint64(START - 1), uint64(START), 0, 0);
        expectUnauthorized(ledger.AUDITOR_ROLE());
        ledger.attest(1, head);
        expectUnauthorized(ledger.GUARDIAN_ROLE());
        ledger.dispute(1);
        expectUnauthorized(ledger.GUARDIAN_ROLE());
        ledger.pause(1);
        expectUnauthorized(ledger.GUARDIAN_ROLE());
        ledger.unpause();
        expectUnauthorized(bytes32(0));
        ledger.revoke(1);
        expectUnauthorized(bytes32(0));
        ledger.withdraw(ANYONE, 1);
        expectUnauthorized(bytes32(0));
        ledger.setMaxStep(1);
    }

    function test_no_key_holds_two_roles() public {
        bytes32[3] memory roles = [ledger.POSTER_ROLE(), ledger.AUDITOR_ROLE(), ledger.GUARDIAN_ROLE()];
        address[4] memory keys = [POSTER, AUDITOR, GUARDIAN, ADMIN];
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = 0; j < 4; ++j) {
                if (i == j) continue;
                bytes32 held = j == 3 ? bytes32(0) : roles[j];
                vm.expectRevert(
                    abi.encodeWithSelector(ISettlementLedger.AccountHoldsAnotherRole.selector, keys[j], held)
                );
                vm.prank(ADMIN);
                ledger.grantRole(roles[i], keys[j]);
            }
        }
        vm.prank(ADMIN);
        ledger.revokeRole(roles[0], POSTER);
        vm.prank(ADMIN);
        ledger.grantRole(roles[1], POSTER); // What was given up first may be given anew.
    }

    function test_admin_key_moves_with_the_delay_and_never_to_a_key_with_a_role() public {
        vm.prank(ADMIN);
        ledger.beginDefaultAdminTransfer(POSTER);
        wait(DELAY + 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                ISettlementLedger.AccountHoldsAnotherRole.selector, POSTER, ledger.POSTER_ROLE()
            )
        );
        vm.prank(POSTER);
        ledger.acceptDefaultAdminTransfer();

        vm.prank(ADMIN);
        ledger.beginDefaultAdminTransfer(ANYONE);
        uint256 schedule = block.timestamp + DELAY;
        wait(DELAY);
        vm.expectRevert(
            abi.encodeWithSelector(
                IAccessControlDefaultAdminRules.AccessControlEnforcedDefaultAdminDelay.selector, schedule
            )
        );
        vm.prank(ANYONE);
        ledger.acceptDefaultAdminTransfer();
        wait(1);
        vm.prank(ANYONE);
        ledger.acceptDefaultAdminTransfer();
        vm.assertEq(ledger.defaultAdmin(), ANYONE, "the new admin");
    }

    function test_one_key_may_hold_all_roles_on_a_development_chain_only() public {
        vm.expectRevert(
            abi.encodeWithSelector(ISettlementLedger.AccountHoldsAnotherRole.selector, ADMIN, bytes32(0))
        );
        new SettlementLedger(token, "USD", DELAY, MONEY, ADMIN, ADMIN, ADMIN, ADMIN);
        vm.chainId(DEVELOPMENT_CHAIN_ID);
        ledger = new SettlementLedger(token, "USD", 60, MONEY, ADMIN, ADMIN, ADMIN, ADMIN);
        vm.assertTrue(ledger.hasRole(ledger.AUDITOR_ROLE(), ADMIN), "auditor");
    }

    function test_delay_is_two_days_or_a_minute_on_a_development_chain() public {
        expectDelayRefused(48 hours - 1, 48 hours);
        expectDelayRefused(90 days + 1, 48 hours);
        vm.chainId(DEVELOPMENT_CHAIN_ID);
        expectDelayRefused(59, 60);
        vm.assertEq(deploy(token, 60).delay(), 60, "a minute");
    }

    function testFuzz_decimals_are_6_to_18(uint8 decimals) public {
        TestToken other = new TestToken(decimals);
        if (decimals < 6 || decimals > 18) {
            vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.DecimalsOutOfRange.selector, decimals));
        }
        deploy(other, DELAY);
    }

    function test_currency_is_three_capital_letters() public {
        bytes3[4] memory wrong = [bytes3("usd"), bytes3("US"), bytes3("U$D"), bytes3("")];
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.CurrencyInvalid.selector, wrong[i]));
            new SettlementLedger(token, wrong[i], DELAY, MONEY, ADMIN, POSTER, AUDITOR, GUARDIAN);
        }
        ledger = new SettlementLedger(token, "AZZ", DELAY, MONEY, ADMIN, POSTER, AUDITOR, GUARDIAN);
        vm.assertEq(ledger.currency(), bytes32(bytes3("AZZ")), "currency");
    }

    function test_two_ledgers_never_share_a_head() public {
        vm.assertTrue(deploy(token, DELAY).head() != ledger.head(), "the ledger's address is in the genesis");
    }

    function test_max_step_is_the_admins() public {
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.MaxStepChanged(MONEY, 7);
        vm.prank(ADMIN);
        ledger.setMaxStep(7);
        vm.assertEq(ledger.maxStep(), 7, "changed");
    }

    function test_demo_dollars_are_made_by_their_owner() public {
        DemoDollar dollar = new DemoDollar(ADMIN);
        vm.assertEq(dollar.decimals(), 6, "decimals");
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, ANYONE));
        vm.prank(ANYONE);
        dollar.mint(ANYONE, 1);
        vm.prank(ADMIN);
        dollar.mint(ALICE, 5);
        vm.assertEq(dollar.balanceOf(ALICE), 5, "made");
    }

    function expectUnauthorized(bytes32 role) internal {
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, ANYONE, role)
        );
        vm.prank(ANYONE);
    }

    function expectDelayRefused(uint48 delay, uint256 least) internal {
        vm.expectRevert(
            abi.encodeWithSelector(ISettlementLedger.DelayOutOfRange.selector, delay, least, uint256(90 days))
        );
        deploy(token, delay);
    }
}
