// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IShareOffering} from "../src/IShareOffering.sol";
import {ITransferPolicy} from "../src/ITransferPolicy.sol";
import {MachineShares} from "../src/MachineShares.sol";
import {ShareOffering} from "../src/ShareOffering.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {vm} from "./Vm.sol";

/// @notice A machine's shares on the funded ledger: a thousand, all of them the issuer's.
abstract contract SharesTest is LedgerTest {
    address internal constant ISSUER = address(0xE1);
    uint256 internal constant SUPPLY = 1_000;
    uint256 internal constant RELEASE = 7 days;
    uint256 internal constant PRICE = 25e6;

    MachineShares internal shares;

    function setUp() public virtual override {
        super.setUp();
        shares = issue(SUPPLY);
    }

    function issue(uint256 supply) internal returns (MachineShares) {
        return issue(supply, ITransferPolicy(address(0)));
    }

    function issue(uint256 supply, ITransferPolicy policy) internal returns (MachineShares) {
        return new MachineShares("Shares of pv-1", "PV1", "pv-1", ledger, ISSUER, supply, policy);
    }

    /// @dev Income that somebody has claimed for the shares, and that they have taken note of.
    function pay(uint256 amount) internal {
        token.mint(address(shares), amount);
        shares.sync();
    }

    function give(address from, address to, uint256 amount) internal {
        vm.prank(from);
        shares.transfer(to, amount);
    }

    function withdraw(address holder) internal returns (uint256) {
        vm.prank(holder);
        return shares.withdraw(holder);
    }

    function offer(uint256 cap) internal returns (ShareOffering offering) {
        vm.prank(ISSUER);
        offering = new ShareOffering(shares, PRICE, cap, block.timestamp + 30 days, termsUntil(block.timestamp + 365 days));
        vm.prank(ISSUER);
        shares.approve(address(offering), cap);
    }

    function termsUntil(uint256 time) internal pure returns (IShareOffering.Terms memory) {
        return IShareOffering.Terms(4_000, uint64(time), uint64(time), keccak256("agreement"));
    }

    function buy(ShareOffering offering, address buyer, uint256 amount) internal {
        token.mint(buyer, amount * PRICE);
        vm.prank(buyer);
        token.approve(address(offering), amount * PRICE);
        vm.prank(buyer);
        offering.buy(amount, amount * PRICE);
    }
}
