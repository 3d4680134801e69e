// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMachineShares} from "../src/IMachineShares.sol";
import {ITransferPolicy} from "../src/ITransferPolicy.sol";
import {ShareOffering} from "../src/ShareOffering.sol";
import {SharesTest} from "./SharesTest.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Works shares at random and keeps a model that is naive in every way: it remembers each arrival, and after
/// each action goes through all arrivals and all holders. Nothing here may revert by accident.
contract SharesHandler is SharesTest {
    uint256 public constant HOLDERS = 4;
    uint256 private constant SHARES = 1_237; // No arrival divides evenly by a prime.

    address[HOLDERS] public holders = [ISSUER, ALICE, BOB, CAROL];
    uint256[HOLDERS] public held;
    uint256[HOLDERS] public owing; // Token units x shares, as earned so far.
    uint256[HOLDERS] public paid;
    uint256 public received;
    uint256 public released;
    uint256 public unseen;
    ShareOffering public offering;

    uint256[] private times;
    uint256[] private amounts;

    constructor() {
        setUp();
        shares = issue(SHARES, ITransferPolicy(address(0)));
        offering = offer(SHARES / 2);
        held[0] = SHARES;
    }

    function sharesAddress() external view returns (address) {
        return address(shares);
    }

    function tokenAddress() external view returns (address) {
        return address(token);
    }

    // ------------------------------------------------------------------------------------------------- Actions

    /// @dev Somebody claims for the shares, or gives; the contract is not told.
    function arrive(uint256 amount) external {
        amount = bound(amount, 1, 1e12);
        token.mint(address(shares), amount);
        unseen += amount;
    }

    function syncNow() external {
        uint256 expected = unseen;
        takeNote();
        vm.assertEq(shares.sync(), expected, "what was not seen");
    }

    function letTimePass(uint256 time) external {
        wait(bound(time, 1, 3 days));
        recount();
    }

    function transfer(uint256 from, uint256 to, uint256 amount) external {
        from = from % HOLDERS;
        to = to % HOLDERS;
        amount = bound(amount, 0, held[from]);
        takeNote();
        give(holders[from], holders[to], amount);
        held[from] -= amount;
        held[to] += amount;
    }

    function buyShares(uint256 buyer, uint256 amount) external {
        buyer = 1 + buyer % (HOLDERS - 1);
        amount = bound(amount, 0, 50);
        if (amount == 0 || amount > offering.available()) return;
        takeNote();
        uint256 before = token.balanceOf(ISSUER);
        buy(offering, holders[buyer], amount);
        vm.assertEq(token.balanceOf(ISSUER) - before, amount * PRICE, "the seller is paid");
        paidForShares += amount * PRICE;
        held[0] -= amount;
        held[buyer] += amount;
    }

    uint256 public paidForShares;

    /// @dev Withdraws, while the token refuses to pay one of the others.
    function withdrawSome(uint256 i, uint256 blocked) external {
        i = i % HOLDERS;
        blocked = blocked % HOLDERS;
        if (blocked != i) token.setBlocked(holders[blocked], true);
        takeNote();
        uint256 due = owing[i] / SHARES;
        if (due == 0) {
            vm.expectRevert(abi.encodeWithSelector(IMachineShares.NothingToWithdraw.selector, holders[i]));
            withdraw(holders[i]);
            unnote();
        } else {
            vm.assertEq(withdraw(holders[i]), due, "what the model owes");
            owing[i] -= due * SHARES;
            paid[i] += due;
        }
        token.setBlocked(holders[blocked], false);
    }

    /// @dev At the end: all is released, and everybody withdraws.
    function payEverything() external {
        takeNote();
        shares.sync();
        wait(RELEASE);
        recount();
        for (uint256 i = 0; i < HOLDERS; ++i) {
            uint256 due = shares.withdrawable(holders[i]);
            if (due == 0) continue;
            withdraw(holders[i]);
            owing[i] -= due * SHARES;
            paid[i] += due;
        }
    }

    // --------------------------------------------------------------------------------------------------- Model

    /// @dev Every action of the contract first sees what has arrived.
    function takeNote() private {
        if (unseen == 0) return;
        times.push(block.timestamp);
        amounts.push(unseen);
        received += unseen;
        unseen = 0;
    }

    /// @dev A call that was refused has seen nothing.
    function unnote() private {
        if (times.length == 0 || shares.received() == received) return;
        unseen = amounts[amounts.length - 1];
        received -= unseen;
        times.pop();
        amounts.pop();
    }

    function recount() private {
        uint256 sum = 0;
        for (uint256 i = 0; i < times.length; ++i) {
            uint256 age = block.timestamp - times[i];
            sum += amounts[i] * (age < RELEASE ? age : RELEASE);
        }
        uint256 more = sum / RELEASE - released;
        released += more;
        for (uint256 i = 0; i < HOLDERS; ++i) {
            owing[i] += held[i] * more;
        }
    }
}
